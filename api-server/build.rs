//! Makes the folder that the web UI is embedded from, so that the API builds before the web UI does.

fn main() -> std::io::Result<()> {
    let dist = std::path::Path::new("../webui/dist");
    std::fs::create_dir_all(dist)?;
    println!("cargo:rerun-if-changed={}", dist.display());
    Ok(())
}
