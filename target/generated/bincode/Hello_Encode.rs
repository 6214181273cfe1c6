impl :: bincode :: Encode for Hello
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        :: bincode :: Encode :: encode(&self.replica, encoder) ?; :: bincode
        :: Encode :: encode(&self.volume, encoder) ?; :: bincode :: Encode ::
        encode(&self.names, encoder) ?; :: bincode :: Encode ::
        encode(&self.size_bytes, encoder) ?; :: bincode :: Encode ::
        encode(&self.region_bytes, encoder) ?; :: bincode :: Encode ::
        encode(&self.incarnation, encoder) ?; :: bincode :: Encode ::
        encode(&self.promised, encoder) ?; :: bincode :: Encode ::
        encode(&self.record, encoder) ?; :: bincode :: Encode ::
        encode(&self.history, encoder) ?; :: bincode :: Encode ::
        encode(&self.leads, encoder) ?; :: bincode :: Encode ::
        encode(&self.blank, encoder) ?; :: bincode :: Encode ::
        encode(&self.unbroken, encoder) ?; :: bincode :: Encode ::
        encode(&self.activity, encoder) ?; core :: result :: Result :: Ok(())
    }
}