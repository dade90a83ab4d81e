/* Proves: state that only the new start-up makes is missing after an update, and the
 * failure is the one that the code's use of it brings: SIGSEGV (with CRASHES), an
 * exit with status 3 (with EXITS), an old text after a new one (otherwise). */
#include "line_server.h"

static const char *greeting;

static void start(void)
{
#if defined NEW || !(defined CRASHES || defined EXITS)
    greeting = VERSION_TEXT("old", "new");
#endif
}

static char first_letter(void)
{
#if defined NEW && defined CRASHES
    return *greeting;
#elif defined NEW && defined EXITS
    if (!greeting)
        exit(3);
    return *greeting;
#else
    return 'n';
#endif
}

static void greet(int fd)
{
    char text[2] = { first_letter(), 0 };

    say(fd, text);
}

static void version(int fd) { say(fd, VERSION_TEXT("version 1", "version 2")); }

static void stored(int fd) { say(fd, greeting ? greeting : "none"); }

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    start();
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "GREET"))
                greet(fd);
            else if (is(line, "STORED"))
                stored(fd);
            else
                version(fd);
        }
        close(fd);
    }
}
