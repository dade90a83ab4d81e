# Two users ask the server about itself and about each other, with netcat. Run in an empty folder.
. "$(dirname "$0")/netcat.sh"
dial alice
type alice 'NICK alice'
type alice 'USER alice 0 * :Real name of alice'
dial bob
type bob 'NICK bob'
type bob 'USER bob 0 * :Real name of bob'
type alice VERSION
type alice INFO
type bob ADMIN
type alice MOTD
type bob LUSERS
type alice TIME
type alice 'WHOIS bob'
type bob 'WHOIS bob'
type alice WHO
type alice LINKS
type alice 'STATS u'
type bob 'STATS m'
type alice 'HELP Join'
type bob HELP
type alice 'ISON bob carol'
type bob 'USERHOST alice'
type bob 'AWAY :out to lunch'
type alice 'PRIVMSG bob :are you there'
type bob AWAY
type alice 'MODE alice +i'
type alice 'MODE alice'
type alice 'PING irc.example.net'
type bob 'NICK robert'
type alice 'WHOIS bob'
type alice 'WHOWAS bob'
type alice LIST
type alice TRACE
type bob VERSION
type bob INFO
type alice 'QUIT :gone'
type bob QUIT
