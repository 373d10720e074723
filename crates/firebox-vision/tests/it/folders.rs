//! Folders of images: order, what is passed over, what is refused.

use std::fs;
use std::path::Path;

use firebox_data::Dataset;
use firebox_vision::{ErrorKind, ImageFolder};
use tempfile::TempDir;

fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        put(folder.path(), name);
    }
    folder
}

fn put(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, name).unwrap();
}

fn names(root: &Path, images: &ImageFolder) -> Vec<String> {
    let name = |index| images.path(index).unwrap().strip_prefix(root).unwrap().to_string_lossy().into_owned();
    (0..images.len()).map(name).collect()
}

#[test]
fn classes_and_images_are_in_torchvisions_order() {
    let files = [
        "b/2.jpg",
        "b/10.png",
        "b/sub/1.PNG",
        "b/sub/deep/1.png",
        "b/sub-2/1.JPEG",
        "a/z.webp",
        "a/Z.gif",
        "B/x.tif",
        "B/y.TIFF",
        "é/1.bmp",
    ];
    let folder = folder(&files);
    let images = ImageFolder::new(folder.path()).unwrap();
    assert_eq!(images.classes(), ["B", "a", "b", "é"]);
    let expected = [
        "B/x.tif",
        "B/y.TIFF",
        "a/Z.gif",
        "a/z.webp",
        "b/10.png",
        "b/2.jpg",
        "b/sub/1.PNG",
        "b/sub-2/1.JPEG",
        "b/sub/deep/1.png",
        "é/1.bmp",
    ];
    assert_eq!(names(folder.path(), &images), expected);
    assert_eq!(images.targets(), [0, 0, 1, 1, 2, 2, 2, 2, 2, 3]);
    for (index, name) in expected.iter().enumerate() {
        let (encoded, class) = images.get(index).unwrap();
        assert_eq!(encoded.bytes(), name.as_bytes());
        assert_eq!(encoded.path(), images.path(index));
        assert_eq!(class, images.targets()[index]);
        assert_eq!(images.locate(index).unwrap().path(), images.path(index));
    }
    let error = images.get(10).unwrap_err().to_string();
    assert!(error.contains("expected an index below 10, got 10"), "{error}");
    assert_eq!(images.locate(10), None);
}

#[test]
fn what_is_hidden_or_no_image_is_counted() {
    let folder = folder(&[
        "readme.txt",
        ".hidden/1.jpg",
        "a/1.jpg",
        "a/._1.jpg",
        "a/notes.txt",
        "a/jpg",
        "a/.cache/2.jpg",
        "a/1.jpg.bak",
    ]);
    let images = ImageFolder::new(folder.path()).unwrap();
    assert_eq!((names(folder.path(), &images), images.ignored()), (vec!["a/1.jpg".to_owned()], 7));
}

#[test]
fn an_empty_class_is_named_and_so_is_a_folder_without_classes() {
    let folder = folder(&["a/1.jpg", "b/notes.txt"]);
    let error = ImageFolder::new(folder.path()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Folder);
    assert_eq!(error.path(), Some(&*folder.path().join("b")));
    let text = "class 1: expected at least one image, got none among 1 entries that are not images";
    assert!(error.to_string().ends_with(text), "{error}");

    let flat = self::folder(&["1.jpg"]);
    let error = ImageFolder::new(flat.path()).unwrap_err();
    assert!(error.to_string().ends_with("expected a folder for each class, got none"), "{error}");
    let missing = ImageFolder::new("/no/such/folder").unwrap_err();
    assert_eq!((missing.kind(), missing.path()), (&ErrorKind::Io, Some(Path::new("/no/such/folder"))));
}

#[cfg(unix)]
#[test]
fn names_that_are_no_unicode_and_links_are_followed() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    let folder = folder(&["a/1.jpg", "b/1.jpg"]);
    let class = folder.path().join(OsStr::from_bytes(b"\xff\xfe"));
    fs::create_dir(&class).unwrap();
    fs::write(class.join(OsStr::from_bytes(b"\xe9.jpg")), "odd").unwrap();
    symlink(folder.path().join("b"), folder.path().join("a/more")).unwrap();
    // Circles end, and links to nothing are no images.
    symlink(folder.path().join("a"), folder.path().join("b/back")).unwrap();
    symlink("/no/such/file", folder.path().join("b/dead.jpg")).unwrap();
    let images = ImageFolder::new(folder.path()).unwrap();
    assert_eq!(images.classes(), ["a", "b", "\u{fffd}\u{fffd}"]);
    assert_eq!(images.targets(), [0, 0, 1, 1, 2]);
    assert_eq!(images.get(images.len() - 1).unwrap().0.bytes(), b"odd");
    assert!(images.ignored() >= 3, "{}", images.ignored());
}

#[test]
fn a_fingerprint_follows_from_names_and_sizes_and_not_from_the_place() {
    let [here, there] = [(); 2].map(|()| folder(&["a/1.jpg", "b/1.jpg"]));
    let fingerprint = |folder: &TempDir| ImageFolder::new(folder.path()).unwrap().fingerprint();
    let first = fingerprint(&here);
    assert_eq!(first, fingerprint(&there));
    fs::write(there.path().join("a/1.jpg"), "longer than before").unwrap();
    assert_ne!(first, fingerprint(&there));
    fs::rename(here.path().join("a/1.jpg"), here.path().join("a/2.jpg")).unwrap();
    assert_ne!(first, fingerprint(&here));
}

#[test]
fn a_file_that_is_too_large_or_gone_is_named() {
    let folder = folder(&["a/1.jpg", "a/2.jpg"]);
    let images = ImageFolder::new(folder.path()).unwrap().with_max_bytes(6);
    let error = images.get(0).unwrap_err().to_string();
    assert!(error.ends_with("a/1.jpg: file: expected at most 6 bytes, got 7"), "{error}");
    fs::remove_file(folder.path().join("a/2.jpg")).unwrap();
    let error = images.get(1).unwrap_err().to_string();
    assert!(error.contains("a/2.jpg: No such file"), "{error}");
}
