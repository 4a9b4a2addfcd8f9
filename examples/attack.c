/*
 * What a hostile job tries: a line per attempt with what the kernel answered.
 *
 *     attack HOME-OF-THE-CALLER WORKSPACE KEY
 *
 * KEY is a file of the caller's that lies outside the workspace.
 *
 * Exits 0 when every attempt failed, 1 when one succeeded.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int succeeded;

static const char *name_of(int error)
{
    switch (error) {
    case EPERM: return "EPERM";
    case EBUSY: return "EBUSY";
    case ENOENT: return "ENOENT";
    case EACCES: return "EACCES";
    case EXDEV: return "EXDEV";
    case EROFS: return "EROFS";
    case ESRCH: return "ESRCH";
    case ENOSYS: return "ENOSYS";
    case ENETUNREACH: return "ENETUNREACH";
    case EAFNOSUPPORT: return "EAFNOSUPPORT";
    default: return "";
    }
}

/* `result` below 0 with errno set is a refusal. */
static void tell(const char *attempt, long result)
{
    int error = errno;
    if (result >= 0) {
        succeeded = 1;
        printf("  %-46s  SUCCEEDED\n", attempt);
    } else {
        printf("  %-46s  %-12s %s\n", attempt, name_of(error), strerror(error));
    }
}

static long open_at(const char *directory, const char *file, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    return open(path, flags | O_CLOEXEC, 0755);
}

static long connect_to(const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? fd : connect(fd, (struct sockaddr *)&to, sizeof to);
}

/* How many processes it can see that are neither init nor its own. */
static int strangers(void)
{
    int count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        int pid = atoi(entry->d_name);
        count += pid > 1 && pid != getpid() && pid != getppid() && getsid(pid) != getsid(0);
    }
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const char *home = argv[1], *workspace = argv[2], *key = argv[3];

    tell("read the caller's home", open(home, O_RDONLY | O_DIRECTORY));
    tell("read a key beside the workspace", open(key, O_RDONLY));
    tell("read /etc/shadow", open("/etc/shadow", O_RDONLY));
    tell("plant .git/hooks/pre-commit", open_at(workspace, ".git/hooks/pre-commit", O_WRONLY | O_CREAT));
    tell("move .git away", rename(".git", ".git-old"));
    tell("change /usr/bin/env", open("/usr/bin/env", O_WRONLY));
    tell("write a file in the caller's home", open_at(home, "planted", O_WRONLY | O_CREAT));
    tell("connect to 192.0.2.1:443", connect_to("192.0.2.1", 443));
    tell("ask the metadata service, 169.254.169.254", connect_to("169.254.169.254", 80));
    tell("open a packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    tell("make a user namespace", unshare(CLONE_NEWUSER));
    tell("mount a tmpfs", mount("none", "/tmp", "tmpfs", 0, NULL));
    tell("unmount a mask, /proc/keys", umount2("/proc/keys", MNT_DETACH));
    tell("set a sysctl, kernel.core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    tell("load a BPF program", syscall(SYS_bpf, 5, NULL, 0));
    tell("use io_uring", syscall(SYS_io_uring_setup, 1, NULL));
    tell("read the caller's keyring", syscall(SYS_keyctl, 11, -4, NULL, 0));
    tell("trace init, pid 1", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    tell("type into the caller's terminal (TIOCSTI)", syscall(SYS_ioctl, 0, 0x5412, "x"));

    int seen = strangers();
    if (seen)
        succeeded = 1;
    printf("  %-46s  %d found\n", "look for processes of others", seen);
    return succeeded;
}
