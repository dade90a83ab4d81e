/* Counters since the start. */
#ifndef KVD_STATS_H
#define KVD_STATS_H

enum stat { STAT_REQUESTS, STAT_ERRORS, STAT_WRITES, STAT_HITS, STAT_MISSES, STAT_END };

void stats_count(enum stat stat);
unsigned long stats_value(enum stat stat);
const char *stats_name(enum stat stat);

#endif
