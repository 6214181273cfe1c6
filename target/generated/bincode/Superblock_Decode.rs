impl < __Context > :: bincode :: Decode < __Context > for Superblock
{
    fn decode < __D : :: bincode :: de :: Decoder < Context = __Context > >
    (decoder : & mut __D) ->core :: result :: Result < Self, :: bincode ::
    error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            node : :: bincode :: Decode :: decode(decoder) ?, replica : ::
            bincode :: Decode :: decode(decoder) ?, volume : :: bincode ::
            Decode :: decode(decoder) ?, era : :: bincode :: Decode ::
            decode(decoder) ?, size_bytes : :: bincode :: Decode ::
            decode(decoder) ?, region_bytes : :: bincode :: Decode ::
            decode(decoder) ?, promised : :: bincode :: Decode ::
            decode(decoder) ?, record : :: bincode :: Decode ::
            decode(decoder) ?, in_force : :: bincode :: Decode ::
            decode(decoder) ?, history : :: bincode :: Decode ::
            decode(decoder) ?, full : :: bincode :: Decode :: decode(decoder)
            ?, mixed : :: bincode :: Decode :: decode(decoder) ?,
        })
    }
} impl < '__de, __Context > :: bincode :: BorrowDecode < '__de, __Context >
for Superblock
{
    fn borrow_decode < __D : :: bincode :: de :: BorrowDecoder < '__de,
    Context = __Context > > (decoder : & mut __D) ->core :: result :: Result <
    Self, :: bincode :: error :: DecodeError >
    {
        core :: result :: Result ::
        Ok(Self
        {
            node : :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, replica : :: bincode :: BorrowDecode ::<
            '_, __Context >:: borrow_decode(decoder) ?, volume : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?, era :
            :: bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, size_bytes : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, region_bytes : ::
            bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, promised : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, record : ::
            bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, in_force : :: bincode :: BorrowDecode
            ::< '_, __Context >:: borrow_decode(decoder) ?, history : ::
            bincode :: BorrowDecode ::< '_, __Context >::
            borrow_decode(decoder) ?, full : :: bincode :: BorrowDecode ::<
            '_, __Context >:: borrow_decode(decoder) ?, mixed : :: bincode ::
            BorrowDecode ::< '_, __Context >:: borrow_decode(decoder) ?,
        })
    }
}