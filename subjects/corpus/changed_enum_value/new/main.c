/* Shows: an enumerator gets another value. What the old version stored means something
 * else to the new one; only a transformer that knows can put it right. */
#include "line_server.h"

enum mood { CALM, UNEASY, ANGRY };

static enum mood mood;

static void anger(int fd)
{
    mood = ANGRY;
    say(fd, "angered");
}

static void tell(int fd)
{
    if (mood == ANGRY)
        say(fd, "angry");
    else if (mood == UNEASY)
        say(fd, "uneasy");
    else
        say(fd, "calm");
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "ANGER"))
                anger(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
