// What the program does when a signal arrives. A handler may run between any two instructions of any thread, so everything a
// handler does is here, in C, on atomics and on functions that POSIX allows in a handler. The rest is left to an ordinary
// thread, which reads the numbers of signals from a pipe.
#pragma once
#include <stdbool.h>
#include <stddef.h>

#pragma clang assume_nonnull begin

// Installs the handlers; called once, before other threads start.
//   SIGINT, SIGTERM, SIGHUP  the number is written to the pipe, as one byte
//   SIGBUS                   on memory of a mapped file: says which file and byte cannot be read, writes the number to the pipe,
//                            gives the reader of the pipe five seconds to end the process, then ends it with `exit_code`;
//                            anywhere else: the default, which ends the process with that signal
//   SIGPIPE, SIGXFSZ         nothing, so that a write that cannot be done fails with an error
// Programs started by this one get the default actions back.
// Returns the descriptor to read from, or -1 with errno.
int zn_signals_install(int exit_code);

// Whether the last line on standard error is a progress bar, to be removed before a message is written.
void zn_signals_set_progress_line(bool is_open);

// The table of mapped files that the handler of SIGBUS searches. Any thread may change it at any time.
// `start` is the first byte of a mapping of `byte_count` bytes; the path is copied. Returns false when memory is short.
bool zn_mapped_file_add(const void *start, size_t byte_count, const char *path);
void zn_mapped_file_remove(const void *start);

// The mapped file that `address` belongs to: its path, valid until the file is removed, and the byte of the file at `address`.
// NULL when the address is in no mapped file. May be called in a handler.
const char *_Nullable zn_mapped_file_find(const void *_Nullable address, size_t *offset);

// Opens /dev/null in place of those of the descriptors 0, 1 and 2 that are closed, so that no file opened later gets their
// numbers. Reading from 0 then finds the end; writing to 1 and 2 fails with EBADF, as before.
void zn_reopen_closed_standard_streams(void);

// Has an abort of this process wait for so many seconds, so that another thread can say why and end it.
void zn_signals_delay_abort(unsigned seconds);

#pragma clang assume_nonnull end
