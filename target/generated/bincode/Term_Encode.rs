impl :: bincode :: Encode for Term
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        :: bincode :: Encode :: encode(&self.leader, encoder) ?; :: bincode ::
        Encode :: encode(&self.incarnation, encoder) ?; :: bincode :: Encode
        :: encode(&self.first, encoder) ?; :: bincode :: Encode ::
        encode(&self.last, encoder) ?; core :: result :: Result :: Ok(())
    }
}