"""The tree of a folder, without what holds no images, and what is left out of it."""

import os
from collections import Counter
from pathlib import Path

from transfer import images
from transfer.terminal import counted, printable, shown

USABLE = (
    f"expected {', '.join(images.FORMATS)} with the suffix of the format, and no links out of the folder; "
    f"convert, rename, copy or (from iCloud) download them{images.INSTALL_HEIC}"
)
# Where the links lead that are not followed.
ASTRAY = (
    "out of the folder, to nothing, in a circle, to a folder beside it or to one that another link "
    "leads to"
)


class Folder:
    """A folder: its folders that hold images, by name, and its images.

    `useless` is the path of an image below it that can't be used, or of a link to a folder that is
    not read, or None, and `bare` lists its folders that hold nothing else. `links` are the paths of its
    links that are not followed.
    """

    def __init__(self, path):
        self.path, self.folders, self.images = path, {}, []
        self.useless, self.bare, self.links = None, [], []


def scan(root):
    """Lists a folder.

    Links inside it are followed, only the first of several to one folder, and none to a folder around
    or beside the link.

    Args:
        root: Path of the folder.

    Returns:
        It as a `Folder`, without those in it that hold no images; a list of lines on what is left out;
        and the words in which a refusal says what it has instead of images.

    Raises:
        OSError: A folder in it can't be read.
    """
    tree, real_root, entered = [Folder(Path())], Path(os.path.realpath(root)), set()
    kinds, unused, hidden, hidden_folders, followed = Counter(), [], [], [], []
    for folder in tree:  # which grows by the folders in it, without recursion: they may be deep
        try:
            with os.scandir(root / folder.path) as found:
                for entry in sorted(found, key=lambda entry: entry.name):
                    path = folder.path / entry.name
                    image = path.suffix.lower() in images.SUFFIXES
                    if images.is_hidden(entry.name):
                        if entry.is_dir(follow_symlinks=False):
                            hidden_folders.append(path)
                        elif image and entry.is_file(follow_symlinks=False):
                            hidden.append(path.name)
                        continue
                    leads = not entry.is_symlink() or _leads_on(root / path, real_root, entered)
                    if leads and entry.is_symlink():
                        followed.append(Path(os.path.realpath(root / path)))
                    plain = leads and entry.is_file()
                    if not leads:
                        folder.links.append(path)
                        if image or _is_elsewhere(root / path, real_root):
                            folder.useless = path
                    elif entry.is_dir():
                        folder.folders[entry.name] = Folder(path)
                        tree.append(folder.folders[entry.name])
                    elif image and plain and not images.is_plot(root / path):
                        folder.images.append(path)
                    elif image and plain:
                        kinds["plots of this project"] += 1
                    else:
                        kinds[path.suffix.lower() if plain else "not a regular file"] += 1
                        if plain and images.means_image(root / path):
                            folder.useless = path
                            unused.append(path)
        except OSError as error:
            raise OSError(
                f"{printable(root / folder.path)} can't be read: {error.strerror}"
            ) from error
    # Links may lead into one, as git-annex has them: its images are used.
    hidden_folders = [
        path
        for path in hidden_folders
        if not any(target.is_relative_to(real_root / path) for target in followed)
    ]
    empty = _without_empty(tree)
    links = [link for folder in tree for link in folder.links]
    elsewhere = [link for link in links if _is_elsewhere(root / link, real_root)]
    left_out = _left_out(kinds, unused, empty, links, hidden, hidden_folders, elsewhere)
    return tree[0], *left_out


def _leads_on(link, real_root, entered):
    """Says whether a link is followed; adds the folder that it leads to to those `entered`."""
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(real_root) or not os.path.exists(target):
        return False
    if os.path.isdir(target):
        around = Path(os.path.realpath(link.parent))
        beside = target.parent == around and not images.is_hidden(target.name)
        if beside or target in entered or around.is_relative_to(target):
            return False
        entered.add(target)
    return True


def _is_elsewhere(link, real_root):
    """Says whether a link leads to a folder that neither is in the root nor holds it."""
    target = Path(os.path.realpath(link))
    inside = target.is_relative_to(real_root) or real_root.is_relative_to(target)
    return os.path.isdir(target) and not inside


def _without_empty(tree):
    """Removes the folders below which there are no images; returns the paths of the outermost."""
    below_nothing = set()
    for folder in reversed(tree):
        for name, below in list(folder.folders.items()):
            if not below.images and not below.folders:
                del folder.folders[name]
                below_nothing.add(below.path)
                if below.useless:
                    folder.bare.append(below)
                    folder.useless = below.useless
    return sorted(path for path in below_nothing if path.parent not in below_nothing)


def _left_out(kinds, unused, empty, links, hidden, hidden_folders, elsewhere):
    """Returns lines on what is left out, and what a folder without images has instead."""
    notes, instead = [], []
    if kinds:
        each = shown(f"{kind or 'no suffix'} ({count:,})" for kind, count in kinds.most_common())
        files = f"{counted(kinds.total(), 'file')} of other kinds: {each}"
        instead.append(files)
        if unused:
            files += f"; {counted(len(unused), 'image')} among them, such as {printable(unused[0])}: {USABLE}"
        notes.append(f"left out: {files}")
    if empty:
        notes.append(f"left out: {counted(len(empty), 'folder')} without an image: {shown(empty)}")
    if links:
        dropped = f"{counted(len(links), 'link')} {ASTRAY}: {shown(links)}"
        instead.append(dropped)
        notes.append(f"not followed: {dropped}")
    if hidden:
        instead.append(
            f"{counted(len(hidden), 'hidden file')} named like an image: {shown(hidden)}"
        )
        notes.append(f"left out: {instead[-1]}")
    if hidden_folders:
        instead.append(f"{counted(len(hidden_folders), 'hidden folder')}: {shown(hidden_folders)}")
        notes.append(f"left out: {instead[-1]}")
    if elsewhere:
        notes.append(
            f"no class here, as a link to a folder elsewhere is not followed: {shown(elsewhere)}; to use "
            "its images, put them there in place of the link"
        )
    return notes, f", but {' and '.join(instead)}" * bool(instead)
