/* Registers the new handler. */
void start(void);

void kairos_transform(void) { start(); }
