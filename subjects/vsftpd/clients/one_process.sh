# curl: several transfers over one connection, an upload, a resumed download, and what
# fails. Run in an empty folder.
server=ftp://localhost:$1
printf 'from curl\n' > up.txt
curl --silent "$server/pub/" --output list "$server/pub/a.txt" --output a.txt "$server/pub/sub/c.txt" --output c.txt
curl --silent --upload-file up.txt "$server/up/" --quote '-SIZE up.txt'
curl --silent --continue-at 6 "$server/pub/a.txt" --output rest.txt
curl --silent --head "$server/pub/a.txt"
curl --silent "$server/pub/song.mp3" --output song
curl --silent --disable-epsv --list-only --quote FEAT --quote '*NOSUCH' "$server/pub/" --output names
