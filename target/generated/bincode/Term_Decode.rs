impl < __Context > :: bincode :: Decode < __Context > for Term
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            leader : :: bincode :: Decode :: decode(decoder) ?, incarnation :
            :: bincode :: Decode :: decode(decoder) ?, first : :: bincode ::
            Decode :: decode(decoder) ?, last : :: bincode :: Decode ::
            decode(decoder) ?,
        })
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Term
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            leader : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, incarnation : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, first : :: bincode
            :: BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            last : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?,
        })
    }
}