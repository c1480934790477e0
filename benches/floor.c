/* The floor of `ratios.rs`: the least a program can do that makes 4 KiB durable before it answers. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char block[4096];
    memset(block, 'x', sizeof block);
    int file = argc == 2 ? open(argv[1], O_RDWR) : -1;
    if (file < 0 || pwrite(file, block, sizeof block, 0) != sizeof block || fdatasync(file) != 0) {
        return 1;
    }
    puts("done");
    return 0;
}
