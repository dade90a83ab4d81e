# People who type IRC into netcat. Run in an empty folder; sets `port` from $1.
port=$1
declare -A typing pid

# Waits until nobody has anything new to show.
quiet() {
    local before=none now
    while now=$(cat ./*.out 2> /dev/null | cksum) && [ "$now" != "$before" ]; do
        before=$now
        sleep 0.3
    done
}

# dial NAME: connects.
dial() {
    mkfifo "$1.in"
    nc -C localhost "$port" < "$1.in" > "$1.out" &
    pid[$1]=$!
    exec {typing[$1]}> "$1.in"
    quiet
}

# type NAME TEXT: sends a line.
type() {
    printf '%s\n' "$2" >&"${typing[$1]}"
    quiet
}

# hang NAME: ends without a word.
hang() {
    kill "${pid[$1]}" 2> /dev/null
    exec {typing[$1]}>&-
    quiet
}
