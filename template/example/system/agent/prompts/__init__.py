"""Its prompts: each Prompt in a module here is registered by its path; so is each .md file with front matter."""
