impl :: bincode :: Encode for Refusal
{
    fn encode < __E : :: bincode :: enc :: Encoder >
    (& self, encoder : & mut __E) ->core :: result :: Result < (), :: bincode
    :: error :: EncodeError >
    {
        match self
        {
            Self ::OldEpoch(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (0u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::LeaderAlive(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (1u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::LeaseOut
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (2u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::AlreadyLeads
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (3u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::NotLeader
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (4u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::NotInSync { since, in_sync }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (5u32), encoder) ?
                ; :: bincode :: Encode :: encode(since, encoder) ?; :: bincode
                :: Encode :: encode(in_sync, encoder) ?; core :: result ::
                Result :: Ok(())
            }, Self ::MayHaveGoneOn { unreachable }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (6u32), encoder) ?
                ; :: bincode :: Encode :: encode(unreachable, encoder) ?; core
                :: result :: Result :: Ok(())
            }, Self ::NoMajority { reachable, replicas }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (7u32), encoder) ?
                ; :: bincode :: Encode :: encode(reachable, encoder) ?; ::
                bincode :: Encode :: encode(replicas, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::NewAndAlone { unreachable }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (8u32), encoder) ?
                ; :: bincode :: Encode :: encode(unreachable, encoder) ?; core
                :: result :: Result :: Ok(())
            }, Self ::Mixed
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (9u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::SplitBrain(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (10u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Coordinator
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (11u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::Disk(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (12u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Busy
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (13u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::Unanswered(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (14u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::NoSuccessor
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (15u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::Leads
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (16u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::OtherVolume
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (17u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::OtherSize { its, own }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (18u32), encoder) ?
                ; :: bincode :: Encode :: encode(its, encoder) ?; :: bincode
                :: Encode :: encode(own, encoder) ?; core :: result :: Result
                :: Ok(())
            }, Self ::OtherRegions { its, own }
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (19u32), encoder) ?
                ; :: bincode :: Encode :: encode(its, encoder) ?; :: bincode
                :: Encode :: encode(own, encoder) ?; core :: result :: Result
                :: Ok(())
            }, Self ::OtherReplicas
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (20u32), encoder) ?
                ; core :: result :: Result :: Ok(())
            }, Self ::OtherName(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (21u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            }, Self ::Histories(field_0)
            =>{
                < u32 as :: bincode :: Encode >:: encode(& (22u32), encoder) ?
                ; :: bincode :: Encode :: encode(field_0, encoder) ?; core ::
                result :: Result :: Ok(())
            },
        }
    }
}