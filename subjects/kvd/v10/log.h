/* The log: one write for each line. */
#ifndef KVD_LOG_H
#define KVD_LOG_H

int log_open(const char *path);
void log_close(void);
void log_line(const char *text);
void log_event(int client, const char *what);
void log_request(int client, const char *name, const char *key);

#endif
