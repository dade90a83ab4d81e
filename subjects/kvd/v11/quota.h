/* How many keys the table may hold. */
#ifndef KVD_QUOTA_H
#define KVD_QUOTA_H

#define QUOTA_KEYS 64

/* Sets the quota, at the start; `origin` says where it comes from. */
void quota_start(int keys, const char *origin);
/* Whether one more key fits. */
int quota_allows(int keys);
/* Says in words what the quota is. */
void quota_describe(char *text, int size);

#endif
