impl :: bincode :: Encode for Operation
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        match self
        {
            Self ::Write { range, change, durable }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (0u32), encoder) ?
                ; :: bincode :: Encode :: encode(range, encoder) ?; :: bincode
                :: Encode :: encode(change, encoder) ?; :: bincode :: Encode
                :: encode(durable, encoder) ?; core :: result :: Result ::
                Ok(())
            }, Self ::Flush
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (1u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::Read { range }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (2u32), encoder) ?
                ; :: bincode :: Encode :: encode(range, encoder) ?; core ::
                result :: Result :: Ok(())
            },
        }
    }
}