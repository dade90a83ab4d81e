# Two anonymous visits: curl fetches, lftp looks around and stores. Run in an empty folder.
port=$1
curl --silent "ftp://localhost:$port/pub/a.txt" --output a.txt
printf 'of the second visitor\n' > second.txt
lftp -c "
set ftp:ssl-allow no
set ftp:use-site-utime no
set ftp:use-site-utime2 no
set net:max-retries 1
open -p $port localhost
cd pub
ls
get sub/c.txt -o c.txt
cd /up
mkdir visit
put second.txt -o visit/second.txt
get /pub/song.mp3 -o song.mp3
quote FEAT
bye"
