/* Proves: what a failing server printed can be read afterwards. It says what it
 * serves; its new version wants to have been started, complains and aborts. */
#include "line_server.h"

static int started;

static void serve(int fd, const char *line)
{
    fprintf(stderr, "serving %s\n", line);
#ifdef NEW
    if (!started) {
        fprintf(stderr, "never started\n");
        abort();
    }
#endif
    say(fd, "served");
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

#ifdef NEW
    started = 1;
#endif
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            serve(fd, line);
        close(fd);
    }
}
