#include "CSignals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static int pipe_ends[2] = {-1, -1};
static int exit_code_of_read_errors;
static atomic_bool progress_line_is_open;
static atomic_flag is_reported = ATOMIC_FLAG_INIT;

void zn_signals_set_progress_line(bool is_open) { atomic_store(&progress_line_is_open, is_open); }

static void hand_over(int number) {
    unsigned char byte = (unsigned char)number;
    // When the pipe is full, its reader has enough to do.
    while (write(pipe_ends[1], &byte, 1) < 0 && errno == EINTR) {
    }
}

static void on_interruption(int number) {
    int error = errno;
    hand_over(number);
    errno = error;
}

static void on_failing_write(int number) { (void)number; }

static void say(const char *text, size_t byte_count) {
    while (byte_count > 0) {
        ssize_t count = write(STDERR_FILENO, text, byte_count);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;
        text += count;
        byte_count -= (size_t)count;
    }
}

static void say_text(const char *text) { say(text, strlen(text)); }

static void say_number(size_t number) {
    char digits[24];
    size_t start = sizeof digits;
    do {
        digits[--start] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    say(digits + start, sizeof digits - start);
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    size_t offset;
    const char *path = info->si_code > 0 ? zn_mapped_file_find(info->si_addr, &offset) : NULL;
    if (!path) {
        // Not a file's memory, but a defect of this program or a signal that someone sent: it is to be seen as one.
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    // Of several threads that meet the same fault, one reports it.
    while (atomic_flag_test_and_set(&is_reported)) pause();
    if (atomic_load(&progress_line_is_open)) say_text("\r\033[K");
    say_text("error: ");
    say_text(path);
    say_text(": cannot be read at byte ");
    say_number(offset);
    say_text(": it became shorter, or its disk failed, while in use\n");
    hand_over(number);
    for (int tenths = 0; tenths < 50; tenths++) poll(NULL, 0, 100);
    _exit(exit_code_of_read_errors);
}

static void handle(int number, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, NULL);
}

int zn_signals_install(int exit_code) {
    if (pipe(pipe_ends) != 0) return -1;
    for (int end = 0; end < 2; end++) fcntl(pipe_ends[end], F_SETFD, FD_CLOEXEC);
    fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK);
    exit_code_of_read_errors = exit_code;

    handle(SIGINT, on_interruption);
    handle(SIGTERM, on_interruption);
    handle(SIGHUP, on_interruption);
    handle(SIGPIPE, on_failing_write);
    handle(SIGXFSZ, on_failing_write);

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);

    // Who started this program may have blocked them.
    sigset_t handled;
    sigemptyset(&handled);
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ, SIGBUS};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(&handled, numbers[i]);
    pthread_sigmask(SIG_UNBLOCK, &handled, NULL);
    return pipe_ends[0];
}

void zn_reopen_closed_standard_streams(void) {
    // open(2) gives the lowest number that is free, which is the one looked at.
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) open("/dev/null", O_RDONLY);
    }
}

static unsigned seconds_before_abort;

static void on_abort(int number) {
    (void)number;
    // A signal may end a sleep early. When the handler returns, the process ends as it would have.
    unsigned left = seconds_before_abort;
    while (left > 0) left = sleep(left);
}

void zn_signals_delay_abort(unsigned seconds) {
    seconds_before_abort = seconds;
    handle(SIGABRT, on_abort);
}
