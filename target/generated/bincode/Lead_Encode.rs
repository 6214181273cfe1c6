impl :: bincode :: Encode for Lead
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        :: bincode :: Encode :: encode(&self.volume, encoder) ?; :: bincode ::
        Encode :: encode(&self.era, encoder) ?; :: bincode :: Encode ::
        encode(&self.record, encoder) ?; :: bincode :: Encode ::
        encode(&self.history, encoder) ?; :: bincode :: Encode ::
        encode(&self.term, encoder) ?; :: bincode :: Encode ::
        encode(&self.begins, encoder) ?; :: bincode :: Encode ::
        encode(&self.report, encoder) ?; core :: result :: Result :: Ok(())
    }
}