# What goes wrong, and disconnects without QUIT, with netcat. Run in an empty folder.
. "$(dirname "$0")/netcat.sh"

long() {
    for _ in $(seq "$2"); do printf '%s ' "$1"; done
}

dial a
type a 'JOIN #c'
type a 'NICK 1bad'
type a 'NICK waytoolongforaname'
type a NICK
type a 'NICK alice'
type a 'USER alice'
type a 'USER alice 0 * :Real name of alice'
type a 'USER alice 0 * :Real name'
type a NOSUCH
type a JOIN
type a 'JOIN nochannel'
type a 'MODE #missing +n'
type a 'MODE nobody'
type a 'MODE 1bad'
type a 'MODE alice +Y'
type a 'TOPIC #missing'
type a 'KICK #missing alice'
type a 'PART #missing'
type a 'PRIVMSG alice'
type a 'PRIVMSG nobody :hello'
type a PRIVMSG
type a 'WHOIS nobody'
type a REHASH
type a 'VERSION nowhere.example.net'
dial b
type b 'NICK alice'
type b 'NICK bob'
type b 'USER bob 0 * :Real name of bob'
type b 'JOIN #c'
type a 'JOIN #c'
hang b
dial e
type e 'PASS nobodyasked'
type e 'NICK carol'
type e 'USER carol 0 * :Real name of carol'
hang e
dial f
type f 'NICK dave'
hang f
dial g
type g 'GET / HTTP/1.0'
hang g
type a ''
type a 'PING x'
type a "PRIVMSG #c :$(long 'long line' 60)"
hang a
