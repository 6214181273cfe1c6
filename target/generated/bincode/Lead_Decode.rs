impl < __Context > :: bincode :: Decode < __Context > for Lead
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            volume : :: bincode :: Decode :: decode(decoder) ?, era : ::
            bincode :: Decode :: decode(decoder) ?, record : :: bincode ::
            Decode :: decode(decoder) ?, history : :: bincode :: Decode ::
            decode(decoder) ?, term : :: bincode :: Decode :: decode(decoder)
            ?, begins : :: bincode :: Decode :: decode(decoder) ?, report : ::
            bincode :: Decode :: decode(decoder) ?,
        })
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Lead
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            volume : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, era : :: bincode :: BorrowDecode ::< '_,
            __Context >:: borrow_decode(decoder) ?, record : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            history : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, term : :: bincode :: BorrowDecode ::<
            '_, __Context >:: borrow_decode(decoder) ?, begins : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
            report : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?,
        })
    }
}