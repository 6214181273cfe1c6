impl :: bincode :: Encode for Origin
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        :: bincode :: Encode :: encode(&self.replica, encoder) ?; :: bincode
        :: Encode :: encode(&self.incarnation, encoder) ?; :: bincode ::
        Encode :: encode(&self.id, encoder) ?; :: bincode :: Encode ::
        encode(&self.answered_below, encoder) ?; core :: result :: Result ::
        Ok(())
    }
}