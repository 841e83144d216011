"""Its environments: each RLEnv in a module here is registered by its name; so is each .yaml file of one."""
