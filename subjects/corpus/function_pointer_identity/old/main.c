/* Shows: functions keep their identity. The program compares a stored function pointer
 * with a function's name; both functions and everyone who names them change. */
#include "line_server.h"

static void kindly(int fd) { say(fd, "welcome"); }

static void shortly(int fd) { say(fd, "hi"); }

static void (*greeting)(int) = kindly;

static void greet(int fd) { greeting(fd); }

static void mood(int fd) { say_text(fd, "mood", greeting == kindly ? "kind" : "short"); }

static void toggle(int fd)
{
    greeting = greeting == kindly ? shortly : kindly;
    say(fd, "toggled");
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
            if (is(line, "GREET"))
                greet(fd);
            else if (is(line, "MOOD"))
                mood(fd);
            else
                toggle(fd);
        }
        close(fd);
    }
}
