variable "count" {
  default = 1
}

job "sleeper" {
  group "main" {
    count = var.count

    task "sleep" {
      driver = "raw_exec"

      config {
        command = "/bin/sleep"
        args    = ["3600"]
      }

      resources {
        cpu    = 10
        memory = 10
      }
    }
  }
}
