impl < __Context > :: bincode :: Decode < __Context > for Refusal
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::OldEpoch
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 1u32 =>core :: result :: Result ::
            Ok(Self ::LeaderAlive
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 2u32 =>core :: result :: Result :: Ok(Self ::LeaseOut {}),
            3u32 =>core :: result :: Result :: Ok(Self ::AlreadyLeads {}),
            4u32 =>core :: result :: Result :: Ok(Self ::NotLeader {}), 5u32
            =>core :: result :: Result ::
            Ok(Self ::NotInSync
            {
                since : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, in_sync : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 6u32 =>core :: result :: Result ::
            Ok(Self ::MayHaveGoneOn
            {
                unreachable : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 7u32 =>core :: result :: Result ::
            Ok(Self ::NoMajority
            {
                reachable : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, replicas : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 8u32 =>core :: result :: Result ::
            Ok(Self ::NewAndAlone
            {
                unreachable : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 9u32 =>core :: result :: Result :: Ok(Self ::Mixed {}), 10u32
            =>core :: result :: Result ::
            Ok(Self ::SplitBrain
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 11u32 =>core :: result :: Result :: Ok(Self ::Coordinator {}),
            12u32 =>core :: result :: Result ::
            Ok(Self ::Disk
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 13u32 =>core :: result :: Result :: Ok(Self ::Busy {}), 14u32
            =>core :: result :: Result ::
            Ok(Self ::Unanswered
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 15u32 =>core :: result :: Result :: Ok(Self ::NoSuccessor {}),
            16u32 =>core :: result :: Result :: Ok(Self ::Leads {}), 17u32
            =>core :: result :: Result :: Ok(Self ::OtherVolume {}), 18u32
            =>core :: result :: Result ::
            Ok(Self ::OtherSize
            {
                its : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, own : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 19u32 =>core :: result :: Result ::
            Ok(Self ::OtherRegions
            {
                its : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, own : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 20u32 =>core :: result :: Result ::
            Ok(Self ::OtherReplicas {}), 21u32 =>core :: result :: Result ::
            Ok(Self ::OtherName
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 22u32 =>core :: result :: Result ::
            Ok(Self ::Histories
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Refusal", allowed : &:: bincode
                :: error :: AllowedEnumVariants :: Range { min: 0, max: 22 }
            })
        }
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Refusal
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::OldEpoch
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 1u32 =>core :: result :: Result ::
            Ok(Self ::LeaderAlive
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 2u32 =>core :: result :: Result :: Ok(Self ::LeaseOut {}),
            3u32 =>core :: result :: Result :: Ok(Self ::AlreadyLeads {}),
            4u32 =>core :: result :: Result :: Ok(Self ::NotLeader {}), 5u32
            =>core :: result :: Result ::
            Ok(Self ::NotInSync
            {
                since : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, in_sync : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 6u32 =>core :: result :: Result ::
            Ok(Self ::MayHaveGoneOn
            {
                unreachable : :: bincode :: BorrowDecode ::< __D :: Context
                >:: borrow_decode(decoder) ?,
            }), 7u32 =>core :: result :: Result ::
            Ok(Self ::NoMajority
            {
                reachable : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, replicas : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 8u32 =>core :: result :: Result ::
            Ok(Self ::NewAndAlone
            {
                unreachable : :: bincode :: BorrowDecode ::< __D :: Context
                >:: borrow_decode(decoder) ?,
            }), 9u32 =>core :: result :: Result :: Ok(Self ::Mixed {}), 10u32
            =>core :: result :: Result ::
            Ok(Self ::SplitBrain
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 11u32 =>core :: result :: Result :: Ok(Self ::Coordinator {}),
            12u32 =>core :: result :: Result ::
            Ok(Self ::Disk
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 13u32 =>core :: result :: Result :: Ok(Self ::Busy {}), 14u32
            =>core :: result :: Result ::
            Ok(Self ::Unanswered
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 15u32 =>core :: result :: Result :: Ok(Self ::NoSuccessor {}),
            16u32 =>core :: result :: Result :: Ok(Self ::Leads {}), 17u32
            =>core :: result :: Result :: Ok(Self ::OtherVolume {}), 18u32
            =>core :: result :: Result ::
            Ok(Self ::OtherSize
            {
                its : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, own : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?,
            }), 19u32 =>core :: result :: Result ::
            Ok(Self ::OtherRegions
            {
                its : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, own : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?,
            }), 20u32 =>core :: result :: Result ::
            Ok(Self ::OtherReplicas {}), 21u32 =>core :: result :: Result ::
            Ok(Self ::OtherName
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 22u32 =>core :: result :: Result ::
            Ok(Self ::Histories
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Refusal", allowed : &:: bincode
                :: error :: AllowedEnumVariants :: Range { min: 0, max: 22 }
            })
        }
    }
}