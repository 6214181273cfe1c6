impl :: bincode :: Encode for Message
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        match self
        {
            Self ::Hello(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (0u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Prepare { epoch, forced }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (1u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(forced, encoder) ?; core :: result ::
                Result :: Ok(())
            }, Self ::Promise { epoch, record, history, unbroken }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (2u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(record, encoder) ?; :: bincode :: Encode
                :: encode(history, encoder) ?; :: bincode :: Encode ::
                encode(unbroken, encoder) ?; core :: result :: Result ::
                Ok(())
            }, Self ::Refused { epoch, promised, record, reason }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (3u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(promised, encoder) ?; :: bincode :: Encode
                :: encode(record, encoder) ?; :: bincode :: Encode ::
                encode(reason, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Lead(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (4u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Led { epoch, activity }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (5u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(activity, encoder) ?; core :: result ::
                Result :: Ok(())
            }, Self ::InForce { epoch }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (6u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Write { epoch, seq, range, change, durable, origin }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (7u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(range, encoder) ?; :: bincode :: Encode ::
                encode(change, encoder) ?; :: bincode :: Encode ::
                encode(durable, encoder) ?; :: bincode :: Encode ::
                encode(origin, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Written { epoch, seq, result }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (8u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(result, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Flush { epoch, flush }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (9u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(flush, encoder) ?; core :: result ::
                Result :: Ok(())
            }, Self ::Flushed { epoch, flush, result }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (10u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(flush, encoder) ?; :: bincode :: Encode ::
                encode(result, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Durable { epoch, flush, mended }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (11u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(flush, encoder) ?; :: bincode :: Encode ::
                encode(mended, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Lacking { epoch, of, regions }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (12u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(of, encoder) ?; :: bincode :: Encode ::
                encode(regions, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Resync { epoch, seq, range }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (13u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(range, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Resynced { epoch, seq, result }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (14u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(result, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Ping { epoch, number }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (15u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(number, encoder) ?; core :: result ::
                Result :: Ok(())
            }, Self ::Pong { epoch, number, granted }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (16u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(number, encoder) ?; :: bincode :: Encode
                :: encode(granted, encoder) ?; core :: result :: Result ::
                Ok(())
            }, Self ::Checksum { epoch, seq, range }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (17u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(range, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Checksummed { epoch, seq, result }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (18u32), encoder) ?
                ; :: bincode :: Encode :: encode(epoch, encoder) ?; :: bincode
                :: Encode :: encode(seq, encoder) ?; :: bincode :: Encode ::
                encode(result, encoder) ?; core :: result :: Result :: Ok(())
            }, Self ::Forward { id, answered_below, sent_before, operation }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (19u32), encoder) ?
                ; :: bincode :: Encode :: encode(id, encoder) ?; :: bincode ::
                Encode :: encode(answered_below, encoder) ?; :: bincode ::
                Encode :: encode(sent_before, encoder) ?; :: bincode :: Encode
                :: encode(operation, encoder) ?; core :: result :: Result ::
                Ok(())
            }, Self ::Forwarded { id, result }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (20u32), encoder) ?
                ; :: bincode :: Encode :: encode(id, encoder) ?; :: bincode ::
                Encode :: encode(result, encoder) ?; core :: result :: Result
                :: Ok(())
            }, Self ::NotLeading { id }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (21u32), encoder) ?
                ; :: bincode :: Encode :: encode(id, encoder) ?; core ::
                result :: Result :: Ok(())
            },
        }
    }
}