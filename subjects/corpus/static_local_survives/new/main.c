/* Shows: the static variable of a function that changes keeps its value, also under an
 * old frame of that function. */
#include "line_server.h"

static void audit(void) { do_nothing(); }

static void ticket(int fd)
{
    static int last;

    last++;
    audit();
    say_number(fd, "ticket no", last);
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
            ticket(fd);
        }
        close(fd);
    }
}
