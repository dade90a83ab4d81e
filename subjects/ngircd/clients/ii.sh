# The IRC client ii, driven by its pipes. Run in an empty folder; sets `port` from $1.
port=$1

# Waits until no client has anything new to show.
quiet() {
    local before=none now
    while now=$(cat ./*/localhost/out ./*/localhost/*/out 2> /dev/null | cksum) && [ "$now" != "$before" ]; do
        before=$now
        sleep 0.3
    done
}

# user NAME: starts a client of that name.
user() {
    mkdir "$1"
    ii -s localhost -p "$port" -n "$1" -f "Real name of $1" -i "$PWD/$1" &
    until grep -q 'End of MOTD' "$1/localhost/out" 2> /dev/null; do sleep 0.1; done
    quiet
}

# server NAME TEXT: types TEXT where the client shows the server.
server() {
    printf '%s\n' "$2" > "$1/localhost/in"
    quiet
}

# channel NAME CHANNEL TEXT: types TEXT where the client shows the channel.
channel() {
    until [ -p "$1/localhost/$2/in" ]; do sleep 0.1; done
    printf '%s\n' "$3" > "$1/localhost/$2/in"
    quiet
}

# long WORD COUNT: a text of that many words.
long() {
    for _ in $(seq "$2"); do printf '%s ' "$1"; done
}
