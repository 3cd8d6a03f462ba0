//! Questions at a terminal.

use anyhow::{Context, Result};
use dialoguer::theme::ColorfulTheme;
use dialoguer::{Input, MultiSelect, Password};

use super::answers::{self, Camera};
use crate::cameras::{self, Found};

/// Whoever is asked.
pub struct Person(ColorfulTheme);

const GONE: &str = "no answer came";

impl Person {
    pub fn new() -> Self {
        Self(ColorfulTheme::default())
    }

    /// A text that `check` takes.
    pub fn text(&self, question: &str, default: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String> {
        let check = move |text: &String| check(text.trim());
        let mut input = Input::<String>::with_theme(&self.0).with_prompt(question).validate_with(check);
        if !default.is_empty() {
            input = input.default(default.to_owned());
        }
        Ok(input.interact_text().context(GONE)?.trim().to_owned())
    }

    /// A text, or nothing.
    pub fn perhaps(&self, question: &str) -> Result<Option<String>> {
        let input = Input::<String>::with_theme(&self.0).with_prompt(question).allow_empty(true);
        let text = input.interact_text().context(GONE)?.trim().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }

    /// What nobody sees.
    pub fn password(&self, question: &str) -> Result<String> {
        Password::with_theme(&self.0).with_prompt(question).allow_empty_password(true).interact().context(GONE)
    }

    /// Out of those that were found, and others.
    pub fn cameras(&self, found: &[Found]) -> Result<Vec<Camera>> {
        let mut cameras = Vec::new();
        if found.is_empty() {
            eprintln!("No GigE Vision, USB3 Vision or USB camera was found.");
        } else {
            let lines: Vec<String> = found.iter().map(cameras::line).collect();
            let chosen = MultiSelect::with_theme(&self.0)
                .with_prompt("Cameras that were found (space marks one, enter goes on)")
                .items_checked(lines.iter().map(|line| (line, true)))
                .interact()
                .context(GONE)?;
            cameras.extend(chosen.into_iter().filter_map(|n| found.get(n)).map(cameras::as_answer));
        }
        loop {
            let more = if cameras.is_empty() { "A camera" } else { "Another camera, or enter" };
            let question = format!("{more} ([NAME=]rtsp://[USER@]HOST/PATH, /dev/…, a folder, genicam:ID, synthetic)");
            let taken: Vec<String> = cameras.iter().map(|camera: &Camera| camera.name.clone()).collect();
            match self.perhaps(&question)? {
                None if cameras.is_empty() => eprintln!("At least one is needed."),
                None => return Ok(cameras),
                Some(text) => match answers::camera(&text, &taken) {
                    Ok(mut camera) => {
                        if let Some((_, secret @ None)) = &mut camera.secret {
                            *secret =
                                Some(self.password(&format!("Password of camera {} (is not shown)", camera.name))?);
                        }
                        cameras.push(camera);
                    }
                    Err(e) => eprintln!("{e}"),
                },
            }
        }
    }
}
