/*
 * ngIRCd 27 to 28: start-up stores the version in two strings, which the update
 * leaves as they are. The protocol identification (NGIRCd_ProtoID) is not redone:
 * it is only sent to other servers.
 */

#include "kairos_transform.h"

struct _CLIENT;

extern char Conf_ServerInfo[];

void Fill_Version(void);
struct _CLIENT *Client_ThisServer(void);
void Client_SetInfo(struct _CLIENT *client, const char *info);

/* Whether the configuration left the server's description at its default. */
static int
info_is_default(void)
{
	static const char old_default[] = "ngIRCd 27";
	unsigned int i;

	for (i = 0; i < sizeof old_default; i++)
		if (Conf_ServerInfo[i] != old_default[i])
			return 0;
	return 1;
}

void
kairos_transform(void)
{
	Fill_Version();
	if (info_is_default()) {
		Conf_ServerInfo[8] = '8';
		Client_SetInfo(Client_ThisServer(), Conf_ServerInfo);
	}
}
