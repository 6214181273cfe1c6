impl < __Context > :: bincode :: Decode < __Context > for Hello
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            replica : :: bincode :: Decode :: decode(decoder) ?, volume : ::
            bincode :: Decode :: decode(decoder) ?, names : :: bincode ::
            Decode :: decode(decoder) ?, size_bytes : :: bincode :: Decode ::
            decode(decoder) ?, region_bytes : :: bincode :: Decode ::
            decode(decoder) ?, incarnation : :: bincode :: Decode ::
            decode(decoder) ?, promised : :: bincode :: Decode ::
            decode(decoder) ?, record : :: bincode :: Decode ::
            decode(decoder) ?, history : :: bincode :: Decode ::
            decode(decoder) ?, leads : :: bincode :: Decode :: decode(decoder)
            ?, blank : :: bincode :: Decode :: decode(decoder) ?, unbroken :
            :: bincode :: Decode :: decode(decoder) ?, activity : :: bincode
            :: Decode :: decode(decoder) ?,
        })
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Hello
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            replica : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, volume : :: bincode :: BorrowDecode ::<
            '_, __Context >:: borrow_decode(decoder) ?, names : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            size_bytes : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, region_bytes : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            incarnation : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, promised : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, record : ::
            bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, history : :: bincode :: BorrowDecode ::<
            '_, __Context >:: borrow_decode(decoder) ?, leads : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?, blank
            : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, unbroken : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, activity : ::
            bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?,
        })
    }
}