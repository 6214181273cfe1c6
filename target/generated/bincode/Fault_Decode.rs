impl < __Context > :: bincode :: Decode < __Context > for Fault
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Disk
            {
                0 : :: bincode :: Decode ::< __D :: Context >::
                decode(decoder) ?,
            }), 1u32 =>core :: result :: Result :: Ok(Self ::NoLeader {}),
            2u32 =>core :: result :: Result :: Ok(Self ::Indeterminate {}),
            3u32 =>core :: result :: Result :: Ok(Self ::OutOfRange {}), 4u32
            =>core :: result :: Result :: Ok(Self ::Busy {}), variant =>core
            :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Fault", allowed : &:: bincode ::
                error :: AllowedEnumVariants :: Range { min: 0, max: 4 }
            })
        }
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Fault
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        let variant_index = < u32 as :: bincode :: Decode ::< __D :: Context
        >>:: decode(decoder) ?; match variant_index
        {
            0u32 =>core :: result :: Result ::
            Ok(Self ::Disk
            {
                0 : :: bincode :: BorrowDecode ::< __D :: Context >::
                borrow_decode(decoder) ?,
            }), 1u32 =>core :: result :: Result :: Ok(Self ::NoLeader {}),
            2u32 =>core :: result :: Result :: Ok(Self ::Indeterminate {}),
            3u32 =>core :: result :: Result :: Ok(Self ::OutOfRange {}), 4u32
            =>core :: result :: Result :: Ok(Self ::Busy {}), variant =>core
            :: result :: Result ::
            Err(:: bincode :: error :: DecodeError :: UnexpectedVariant
            {
                found : variant, type_name : "Fault", allowed : &:: bincode ::
                error :: AllowedEnumVariants :: Range { min: 0, max: 4 }
            })
        }
    }
}