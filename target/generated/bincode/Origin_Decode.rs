impl < __Context > :: bincode :: Decode < __Context > for Origin
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            replica : :: bincode :: Decode :: decode(decoder) ?, incarnation :
            :: bincode :: Decode :: decode(decoder) ?, id : :: bincode ::
            Decode :: decode(decoder) ?, answered_below : :: bincode :: Decode
            :: decode(decoder) ?,
        })
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Origin
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            replica : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, incarnation : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, id : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            answered_below : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?,
        })
    }
}