impl :: bincode :: Encode for Superblock
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        :: bincode :: Encode :: encode(&self.node, encoder) ?; :: bincode ::
        Encode :: encode(&self.replica, encoder) ?; :: bincode :: Encode ::
        encode(&self.volume, encoder) ?; :: bincode :: Encode ::
        encode(&self.era, encoder) ?; :: bincode :: Encode ::
        encode(&self.size_bytes, encoder) ?; :: bincode :: Encode ::
        encode(&self.region_bytes, encoder) ?; :: bincode :: Encode ::
        encode(&self.promised, encoder) ?; :: bincode :: Encode ::
        encode(&self.record, encoder) ?; :: bincode :: Encode ::
        encode(&self.in_force, encoder) ?; :: bincode :: Encode ::
        encode(&self.history, encoder) ?; :: bincode :: Encode ::
        encode(&self.full, encoder) ?; :: bincode :: Encode ::
        encode(&self.mixed, encoder) ?; core :: result :: Result :: Ok(())
    }
}