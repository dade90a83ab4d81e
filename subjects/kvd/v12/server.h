/* The listening socket, the event loop, start and stop. */
#ifndef KVD_SERVER_H
#define KVD_SERVER_H

struct options {
    int port;
    const char *log_path;
    const char *dump_path; /* NULL: no dump at the stop */
};

int server_start(const struct options *options);
void server_run(void);
void server_describe(char *text, int size); /* the options */
int server_stop(const struct options *options);

#endif
