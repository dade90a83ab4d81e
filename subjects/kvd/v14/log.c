#define _GNU_SOURCE
#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_LINE 400

static int log_file = -1;

int log_open(const char *path)
{
    log_file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    return log_file >= 0 ? 0 : -1;
}

void log_close(void)
{
    close(log_file);
    log_file = -1;
}

void log_line(const char *text)
{
    char line[LOG_LINE];
    int length = snprintf(line, sizeof line, "%s\n", text);

    /* A log that cannot be written must not stop the server. */
    if (write(log_file, line, (size_t)length) < 0)
        return;
}

void log_event(const char *what, int client)
{
    char text[LOG_LINE - 2];

    snprintf(text, sizeof text, "%d %s", client, what);
    log_line(text);
}

void log_request(int client, const char *name, const char *key)
{
    char text[LOG_LINE - 2];

    snprintf(text, sizeof text, "client %d asks %s %s", client, name, key);
    log_line(text);
}
