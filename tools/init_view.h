/* latch view --init: the options of latch init, for the key store of a view. */
#ifndef TOOLS_INIT_VIEW_H
#define TOOLS_INIT_VIEW_H

/* argv as of a command, --init in it. Prints its own error; returns an exit code. */
int init_view(int argc, char **argv);

#define INIT_HELP                                                                                      \
    "  --suite SUITE             auto (default), aes-256-gcm or chacha20-poly1305\n"                   \
    "  --recovery-file FILE      write the recovery key into FILE (new, mode 0600), do not show it\n"  \
    "  --no-recovery             make no recovery key\n"                                               \
    "  --label TEXT              a name for the first slot\n"                                          \
    "  --environment NAME        production, staging, ...: latch-keyd may refuse other environments\n" \
    "  --fast-kdf                weak passphrase protection, for tests only\n"                         \
    "\n"                                                                                               \
    "Without one of these the first slot's passphrase is asked on the terminal, twice:\n"              \
    "  --passphrase-file FILE    the passphrase is FILE's content; one trailing newline is cut\n"      \
    "  --passphrase-fd N         the same, read from descriptor N\n"                                   \
    "  --passphrase-command CMD  the same, from the standard output of CMD, run by /bin/sh\n"          \
    "  --keyfile FILE            the first slot is a key file slot, 32 to 8192 bytes\n"                \
    "  --recipient FILE          it is for the public key in FILE, or latch-recipient-... itself\n"    \
    "  --identity FILE           the same, by the private key in FILE\n"                               \
    "  --command NAME            it is a command slot; the command gets what is behind --\n"           \
    "  --command-timeout SECONDS how long the command may take, 30 by default\n"

#endif
