/* In place of libFuzzer: runs a target once on every file of the directories that are named. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
    return size;
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    static uint8_t data[1 << 20];
    if (!f) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    uint8_t *own = malloc(size + 1); /* of its own, so that a read past its end is seen */
    if (!own)
        exit(1);
    memcpy(own, data, size);
    LLVMFuzzerTestOneInput(own, size);
    free(own);
}

static unsigned run_dir(const char *dir)
{
    struct dirent **list;
    unsigned count = 0;
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
        if (list[i]->d_name[0] != '.') {
            printf("%s\n", path);
            fflush(stdout);
            run_file(path);
            count++;
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++)
        count += run_dir(argv[i]);
    printf("%u inputs\n", count);
    return count == 0;
}
