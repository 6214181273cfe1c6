impl < __Context > :: bincode :: Decode < __Context > for Operation
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Write
            {
                range : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?, change : :: bincode :: Decode ::< __D ::
                Context >:: decode(decoder) ?, durable : :: bincode :: Decode
                ::< __D :: Context >:: decode(decoder) ?,
            }), 1u32 =>core :: result :: Result :: Ok(Self ::Flush {}), 2u32
            =>core :: result :: Result ::
            Ok(Self ::Read
            {
                range : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Operation", allowed : &::
                bincode :: error :: AllowedEnumVariants :: Range
                { min: 0, max: 2 }
            })
        }
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Operation
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Write
            {
                range : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?, change : :: bincode :: BorrowDecode
                ::< __D :: Context >:: borrow_decode(decoder) ?, durable : ::
                bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 1u32 =>core :: result :: Result :: Ok(Self ::Flush {}), 2u32
            =>core :: result :: Result ::
            Ok(Self ::Read
            {
                range : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), variant =>core :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Operation", allowed : &::
                bincode :: error :: AllowedEnumVariants :: Range
                { min: 0, max: 2 }
            })
        }
    }
}