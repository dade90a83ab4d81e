# An operator acts on the server and on users, with ii. Run in an empty folder.
. "$(dirname "$0")/ii.sh"
user alice
user bob
server alice '/j #old'
server alice '/OPER theoper thepwd'
server alice '/REHASH'
server bob '/MOTD'
server alice '/ADMIN'
server bob '/LINKS'
server bob '/JOIN #new'
server bob '/MODE #new'
server alice '/MODE #old'
server bob '/OPER theoper newpwd'
server alice '/KLINE *!*@10.0.0.1 3600 :go away'
server alice '/STATS k'
server bob '/MODE bob +w'
server alice '/WALLOPS :hear me'
server alice '/LIST'
server alice '/KILL bob :enough'
user carol
server carol '/q'
server alice '/q gone'
