/* kvd: a small key-value server. Options, and the order of start and stop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"
#include "server.h"

static void usage(void)
{
    fputs("usage: kvd -p PORT -l LOGFILE [-d DUMPFILE] [-k COPYFILE]\n", stderr);
}

static int read_port(const char *text, int *port)
{
    long long value;

    if (parse_number(text, &value) != 0 || value < 1 || value > 65535)
        return -1;
    *port = (int)value;
    return 0;
}

static int read_options(int argc, char **argv, struct options *options)
{
    memset(options, 0, sizeof *options);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "-p") == 0) {
            if (read_port(argv[i + 1], &options->port) != 0)
                return -1;
        } else if (strcmp(argv[i], "-l") == 0) {
            options->log_path = argv[i + 1];
        } else if (strcmp(argv[i], "-d") == 0) {
            options->dump_path = argv[i + 1];
        } else if (strcmp(argv[i], "-k") == 0) {
            options->copy_path = argv[i + 1];
        } else {
            return -1;
        }
    }
    return argc % 2 == 1 && options->port && options->log_path ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct options options;

    if (read_options(argc, argv, &options) != 0) {
        usage();
        return 2;
    }
    if (server_start(&options) != 0) {
        perror("kvd");
        return 1;
    }
    server_run();
    return server_stop(&options) == 0 ? 0 : 1;
}
