# A local user: curl with a wrong password, then lftp. Run in an empty folder.
port=$1
curl --silent --user alice:guess "ftp://localhost:$port/notes.txt"
printf 'third note\n' > more.txt
lftp -c "
set ftp:ssl-allow no
set ftp:use-site-utime no
set ftp:use-site-utime2 no
open -u alice,secret -p $port localhost
pwd
ls -a
ls ../..
site chmod 600 notes.txt
put more.txt
get more.txt -o again.txt
mv more.txt less.txt
cat notes.txt
quote STAT
rm less.txt
mkdir folder
rmdir folder
quote FEAT
bye"
