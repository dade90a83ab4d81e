/* Derives the keys again. */
void start(void);

void kairos_transform(void) { start(); }
