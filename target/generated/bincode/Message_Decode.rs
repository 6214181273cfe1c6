impl < __Context > :: bincode :: Decode < __Context > for Message
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Hello
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 1u32 =>core :: result :: Result ::
            Ok(Self ::Prepare
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, forced : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 2u32 =>core :: result :: Result ::
            Ok(Self ::Promise
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, record : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, history : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?, unbroken : ::
                bincode :: Decode ::< __D :: Context >:: decode(decoder) ?,
            }), 3u32 =>core :: result :: Result ::
            Ok(Self ::Refused
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, promised : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, record : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?, reason : :: bincode
                :: Decode ::< __D :: Context >:: decode(decoder) ?,
            }), 4u32 =>core :: result :: Result ::
            Ok(Self ::Lead
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 5u32 =>core :: result :: Result ::
            Ok(Self ::Led
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, activity : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 6u32 =>core :: result :: Result ::
            Ok(Self ::InForce
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 7u32 =>core :: result :: Result ::
            Ok(Self ::Write
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, range : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?, change : :: bincode
                :: Decode ::< __D :: Context >:: decode(decoder) ?, durable :
                :: bincode :: Decode ::< __D :: Context >:: decode(decoder) ?,
                origin : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 8u32 =>core :: result :: Result ::
            Ok(Self ::Written
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, result : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 9u32 =>core :: result :: Result ::
            Ok(Self ::Flush
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, flush : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 10u32 =>core :: result :: Result ::
            Ok(Self ::Flushed
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, flush : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, result : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 11u32 =>core :: result :: Result ::
            Ok(Self ::Durable
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, flush : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, mended : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 12u32 =>core :: result :: Result ::
            Ok(Self ::Lacking
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, of : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, regions : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 13u32 =>core :: result :: Result ::
            Ok(Self ::Resync
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, range : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 14u32 =>core :: result :: Result ::
            Ok(Self ::Resynced
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, result : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 15u32 =>core :: result :: Result ::
            Ok(Self ::Ping
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, number : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 16u32 =>core :: result :: Result ::
            Ok(Self ::Pong
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, number : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, granted : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 17u32 =>core :: result :: Result ::
            Ok(Self ::Checksum
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, range : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 18u32 =>core :: result :: Result ::
            Ok(Self ::Checksummed
            {
                epoch : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, seq : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, result : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 19u32 =>core :: result :: Result ::
            Ok(Self ::Forward
            {
                id : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, answered_below : :: bincode :: Decode ::<
                __D :: Context >:: decode(decoder) ?, sent_before : :: bincode
                :: Decode ::< __D :: Context >:: decode(decoder) ?, operation
                : :: bincode :: Decode ::< __D :: Context >:: decode(decoder)
                ?,
            }), 20u32 =>core :: result :: Result ::
            Ok(Self ::Forwarded
            {
                id : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, result : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?,
            }), 21u32 =>core :: result :: Result ::
            Ok(Self ::NotLeading
            {
                id : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Message", allowed : &:: bincode
                :: error :: AllowedEnumVariants :: Range { min: 0, max: 21 }
            })
        }
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Message
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Hello
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 1u32 =>core :: result :: Result ::
            Ok(Self ::Prepare
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, forced : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 2u32 =>core :: result :: Result ::
            Ok(Self ::Promise
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, record : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, history : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, unbroken : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 3u32 =>core :: result :: Result ::
            Ok(Self ::Refused
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, promised : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
                record : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, reason : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 4u32 =>core :: result :: Result ::
            Ok(Self ::Lead
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 5u32 =>core :: result :: Result ::
            Ok(Self ::Led
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, activity : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 6u32 =>core :: result :: Result ::
            Ok(Self ::InForce
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 7u32 =>core :: result :: Result ::
            Ok(Self ::Write
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, range : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, change : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, durable : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, origin : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 8u32 =>core :: result :: Result ::
            Ok(Self ::Written
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, result : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 9u32 =>core :: result :: Result ::
            Ok(Self ::Flush
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, flush : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 10u32 =>core :: result :: Result ::
            Ok(Self ::Flushed
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, flush : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, result : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 11u32 =>core :: result :: Result ::
            Ok(Self ::Durable
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, flush : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, mended : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 12u32 =>core :: result :: Result ::
            Ok(Self ::Lacking
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, of : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, regions : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 13u32 =>core :: result :: Result ::
            Ok(Self ::Resync
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, range : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 14u32 =>core :: result :: Result ::
            Ok(Self ::Resynced
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, result : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 15u32 =>core :: result :: Result ::
            Ok(Self ::Ping
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, number : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 16u32 =>core :: result :: Result ::
            Ok(Self ::Pong
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, number : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, granted : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 17u32 =>core :: result :: Result ::
            Ok(Self ::Checksum
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, range : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 18u32 =>core :: result :: Result ::
            Ok(Self ::Checksummed
            {
                epoch : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, seq : :: bincode :: BorrowDecode ::<
                __D :: Context >:: borrow_decode(decoder) ?, result : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 19u32 =>core :: result :: Result ::
            Ok(Self ::Forward
            {
                id : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, answered_below : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
                sent_before : :: bincode :: BorrowDecode ::< __D :: Context
                >:: borrow_decode(decoder) ?, operation : :: bincode ::
                BorrowDecode ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 20u32 =>core :: result :: Result ::
            Ok(Self ::Forwarded
            {
                id : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, result : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?,
            }), 21u32 =>core :: result :: Result ::
            Ok(Self ::NotLeading
            {
                id : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Message", allowed : &:: bincode
                :: error :: AllowedEnumVariants :: Range { min: 0, max: 21 }
            })
        }
    }
}