/* A static program that looks up a host or a user would load the NSS modules that nsswitch.conf names, such
 * as `resolve` and `systemd`. They are built for the glibc of the machine that runs the program, and crash in
 * a program that carries another. So these lookups use only what glibc has built in: files and DNS. */
#include <nss.h>

__attribute__((constructor)) static void use_built_in_lookups(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}
