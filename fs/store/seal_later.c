/* Asking the seal of a long file after its first change. The tag pages lie far apart, and a writer must not
 * wait until a disk has found thousands of them; so they are read when the file is sealed next. */
#include "fs/store/seal.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <string.h>

int seal_later_begin(struct file *f)
{
    struct seal_run *run = f->seal_later || f->seal_misfit ? NULL : seal_run_before(f);
    if (!run)
        return -ENOMEM;
    memcpy(f->seal_later_root, f->hdr.seal_root, sizeof f->seal_later_root);
    f->seal_later = run;
    return 0;
}

bool seal_is_asked_later(const struct file *f)
{
    return f->seal_later || f->seal_misfit;
}

int seal_page_changes(struct file *f, int fd, uint64_t first, const uint8_t *page)
{
    uint8_t buf[PAGE_BYTES] = {0};
    if (!seal_run_wants(f->seal_later, first))
        return 0;
    ssize_t n = page ? 0 : io_pread(fd, buf, sizeof buf, layout_tag_page(first));
    if (n < 0)
        return (int)n;
    seal_run_keep(f->seal_later, first, page ? page : buf);
    return 0;
}

static void end(struct file *f, int r)
{
    seal_run_free(f->seal_later);
    f->seal_later = NULL;
    f->seal_misfit = r != 0;
}

int seal_later_some(struct file *f, int fd)
{
    if (!f->seal_later)
        return f->seal_misfit ? LFS_ERR_AUTH : 0;
    int r = seal_run_some(f->seal_later, f, fd, true);
    if (r)
        return r;
    r = seal_compare(f, f->seal_later, f->seal_later_root);
    end(f, r);
    return r;
}

int seal_later_finish(struct file *f, int fd)
{
    int r = f->seal_later ? 1 : 0;
    while (r > 0)
        r = seal_later_some(f, fd);
    return f->seal_later ? r : 0;
}

void seal_later_drop(struct file *f)
{
    seal_run_free(f->seal_later);
    f->seal_later = NULL;
}
