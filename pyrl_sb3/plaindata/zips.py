"""Members of zip archives."""

import zipfile


def unpack(archive: zipfile.ZipFile, name: str) -> bytes:
    """
    Return a member, as long as the table of contents says.

    `ZipFile.read` unpacks up to 2 GiB of a member before it cuts off what is more than that.
    """
    with archive.open(name) as member:
        return member.read(archive.getinfo(name).file_size)
