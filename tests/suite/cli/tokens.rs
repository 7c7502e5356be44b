//! The file of tokens that a server makes, or finds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef\n";

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A home with a file of tokens.
fn with_tokens(text: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let file = home.0.join("qtasks/tokens");
    std::fs::create_dir(home.0.join("qtasks")).unwrap();
    std::fs::write(&file, text).unwrap();
    mode(&home.0, 0o700);
    mode(&home.0.join("qtasks"), 0o700);
    mode(&file, 0o600);
    (home, file)
}

async fn serves(home: &Home) {
    let mut server = home.command(ALONE, &["serve", "--port", "0"]).spawn().unwrap();
    let url = first_line(server.stdout.as_mut().unwrap()).await;
    signal(&server, "-TERM");
    let over = over(server).await;
    assert!(url.starts_with("http://127.0.0.1:"), "{over:?}");
    over.ends(0);
}

#[tokio::test]
async fn tokens_that_others_may_touch_are_refused() {
    let (home, file) = with_tokens(TOKEN);
    serves(&home).await;
    for open in [0o666, 0o644, 0o640, 0o620, 0o604, 0o602] {
        mode(&file, open);
        // Who serves, and who would send the token.
        for args in [&["serve", "--port", "0"][..], &["--store", "http://127.0.0.1:1", "list"]] {
            let refused = home.run_as(ALONE, args).await.ends(2);
            let wanted = [format!("(mode {open:04o})"), format!("`chmod 600 {}`", file.display())];
            assert!(wanted.iter().all(|words| refused.err.contains(words)), "{refused:?}");
        }
    }
    mode(&file, 0o600);
    for folder in [home.0.join("qtasks"), home.0.clone()] {
        mode(&folder, 0o777);
        let refused = home.run_as(ALONE, &["serve", "--port", "0"]).await.ends(2);
        assert!(refused.err.contains(&format!("`chmod go-w {}`", folder.display())), "{refused:?}");
        // Where nobody may take away what belongs to others, as in `/tmp`.
        mode(&folder, 0o1777);
        serves(&home).await;
        mode(&folder, 0o700);
    }
    serves(&home).await;
    // A link is as good as what it leads to.
    std::fs::rename(&file, home.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.0.join("elsewhere"), &file).unwrap();
    serves(&home).await;
    mode(&home.0.join("elsewhere"), 0o644);
    home.run_as(ALONE, &["serve", "--port", "0"]).await.ends(2);
}

#[tokio::test]
async fn a_file_without_tokens_lets_nobody_in_and_is_refused() {
    for text in ["", "\n", " \t\r\n", "# to do\n"] {
        let (home, file) = with_tokens(text);
        let refused = home.run_as(ALONE, &["serve", "--port", "0"]).await.ends(2);
        let wanted = format!("error: there is no token in {}: delete the file for a new one", file.display());
        assert!(refused.err.starts_with(&wanted), "{text:?}: {refused:?}");
    }
}

#[tokio::test]
async fn what_is_made_is_the_users_own_whatever_the_umask() {
    let home = Home::new();
    mode(&home.0, 0o700);
    let script = format!("umask 0; exec {ALONE} serve --port 0");
    let mut server = home.command("sh", &["-c", &script]).spawn().unwrap();
    let url = first_line(server.stdout.as_mut().unwrap()).await;
    assert!(url.starts_with("http://"), "{url}");
    signal(&server, "-TERM");
    over(server).await.ends(0);
    let is = |path: &str| std::fs::metadata(home.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((is("qtasks"), is("qtasks/tokens"), is("q.db")), (0o700, 0o600, 0o600));
    let left = std::fs::read_dir(home.0.join("qtasks")).unwrap().count();
    assert_eq!(left, 1, "nothing is left of how it was made");
    serves(&home).await;
}
