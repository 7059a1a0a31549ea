/* file_advise.h - hints about mapped files. */
#ifndef MF_OS_FILE_ADVISE_H
#define MF_OS_FILE_ADVISE_H

#include "os/file.h"

/* Tells the system that the mapped bytes are not needed for now: they stop counting as
 * memory of this process and come back from the page cache, or the disk, when touched.
 * Only a hint; an empty view is fine. */
void mf_file_view_cool(const mf_file_view *view);

#endif
